"""Times of steps on a device: by its events on a GPU, by the processor's clock where the scripts are
rehearsed without one."""

import time

import torch


class Clock:
    def __init__(self, device):
        self.device, self.gpu = device, device != "cpu"

    def about(self):
        if not self.gpu:
            return {"name": "rehearsed on a CPU: no times of a GPU"}
        p = torch.cuda.get_device_properties(0)
        return {"name": p.name, "multiprocessors": p.multi_processor_count}

    def memory(self):
        return torch.cuda.get_device_properties(0).total_memory

    def sync(self):
        if self.gpu:
            torch.cuda.synchronize()

    def free(self):
        if self.gpu:
            torch.cuda.empty_cache()

    def once(self, f):
        """Milliseconds of one call."""
        if not self.gpu:
            begin = time.perf_counter()
            f()
            return (time.perf_counter() - begin) * 1e3
        a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        a.record()
        f()
        b.record()
        torch.cuda.synchronize()
        return a.elapsed_time(b)

    def steps(self, f, seconds, least, warm=3):
        """Milliseconds of each of the calls that seconds have room for, and at least so many."""
        for _ in range(warm):
            f()
        self.sync()
        out, begin = [], time.perf_counter()
        while len(out) < least or time.perf_counter() - begin < seconds:
            out.append(self.once(f))
        return out

    def recorded(self, step):
        """step as one launch: a CUDA graph."""
        if not self.gpu:
            step()
            return step
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        return graph.replay
