package compute

// toNHWC reorders images [n,c,h,w] into [n,h,w,c].
func toNHWC(x []float32, n, c, h, w int) []float32 {
	out := make([]float32, len(x))
	i := 0
	for b := 0; b < n; b++ {
		for p := 0; p < h*w; p++ {
			for ch := 0; ch < c; ch++ {
				out[i] = x[(b*c+ch)*h*w+p]
				i++
			}
		}
	}
	return out
}

// toNCHW reorders images [n,h,w,c] into [n,c,h,w].
func toNCHW(x []float32, n, c, h, w int) []float32 {
	out := make([]float32, len(x))
	i := 0
	for b := 0; b < n; b++ {
		for p := 0; p < h*w; p++ {
			for ch := 0; ch < c; ch++ {
				out[(b*c+ch)*h*w+p] = x[i]
				i++
			}
		}
	}
	return out
}
