#!/usr/bin/env bash
# Reads the machine code of the GPU image (`make gpu`), each kernel on each architecture.
#
#	scripts/sass.sh          writes bench/sass.csv
#	scripts/sass.sh check    fails when a kernel has local memory, which is where registers are
#	                         spilled to, or more registers than that table, or the table lacks it
#
# Columns: threads a block (the kernel's launch bounds, else gocp/kernel's); registers a thread;
# static shared memory a block and local memory a thread, bytes; local: instructions that touch
# local memory; occupancy: resident warps of the most that a multiprocessor holds, per cent;
# instructions in all, and of them on tensor cores (mma), asynchronous copies to shared memory
# (ldgsts), loads of matrices (ldsm), loads of 16 bytes or more (wide, ldgsts among them); loop:
# instructions of the main loop, the shortest with tensor cores between a backward branch and its
# target; share: per cent of them on tensor cores. No-operations are not counted. `check` also fails
# when a share falls.
#
# Occupancy is min over threads, blocks, registers (64 K in four parts, given to a warp by 256) and
# shared memory (by 128 bytes, 1 KB reserved a block, which cuobjdump counts from sm_90 on in kernels with
# static shared memory, and the table does not). Dynamic shared memory is the launch's and not
# in the code: for kernels that use it the number is an upper bound. Limits: CUDA C++ Programming
# Guide, "Technical Specifications per Compute Capability"; the same in CCCL's arch_traits.h.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export LC_ALL=C
table=bench/sass.csv

image=$(scripts/gpu.sh)
tools=$(dirname "$(scripts/nvcc.sh)")
have() { [ -x "$tools/cuobjdump" ] && [ -x "$tools/nvdisasm" ]; }
have || tools=$(dirname "$(GOCP_CUDA=fetch scripts/nvcc.sh)")
export PATH=$tools:$PATH
threads=$(sed -n 's/^const threads = \([0-9]*\)$/\1/p' gocp/kernel/kernel.go)
header() { sed '/^$/q' "$image"; }
release=$(header | sed -n 's/^nvcc //p')
base=$(header | sed -n 's/^base 0*//p')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# read_module NAME OFFSET BYTES: the rows of a module, kept in build/gpu from one time to the next.
# cuobjdump is asked for the attributes, the resources and the code, in this order.
read_module() {
	local name=$1 offset=$2 bytes=$3 kept
	tail -c +"$((base + offset + 1))" "$image" | head -c "$bytes" >"$work/$name.fatbin"
	kept=build/gpu/$name-$(cat scripts/sass.sh gocp/kernel/kernel.go "$work/$name.fatbin" | sha256sum | cut -c 1-16).sass
	if [ -e "$kept" ]; then
		cp "$kept" "$work/$name.csv"
		return
	fi
	{
		cuobjdump -elf "$work/$name.fatbin" | grep -E '^arch = |^\.nv\.info|EIATTR_MAX_THREADS|Value:.*0x' || true
		cuobjdump -res-usage "$work/$name.fatbin"
		cuobjdump -sass "$work/$name.fatbin" | grep -E 'code for|Function :|^ +/\*[0-9a-f]{4,}\*/'
	} | awk -v threads="$threads" '
		function least(a, b) { return a < b ? a : b }
		function hex(x,    i, n, d) {
			n = 0
			for (i = 1; i <= length(x); i++) if (d = index("0123456789abcdef", substr(x, i, 1))) n = 16 * n + d - 1
			return n
		}
		function up(a, by) { return int((a + by - 1) / by) * by }
		function occupancy(sm, t, r, s,    warps, most, b, f) {
			split(limits[sm], f, " ")
			warps = up(t, 32) / 32
			most = f[1] / 32
			b = least(f[2], int(most / warps))
			b = least(b, int(4 * int(16384 / up(32 * r, 256)) / warps))
			b = least(b, int(f[3] * 1024 / up(s + 1024, 128)))
			return 100 * b * warps / most
		}
		BEGIN { # threads, blocks, KB of shared memory of a multiprocessor
			limits[80] = "2048 32 164"; limits[86] = "1536 16 100"
			limits[90] = "2048 32 228"; limits[100] = "2048 32 228"; limits[120] = "1536 24 100"
		}
		/^arch = / || /code for/ { sm = $NF; sub(/^sm_/, "", sm); next }
		/^\.nv\.info\./ { kernel = $1; sub(/^\.nv\.info\./, "", kernel); next }
		/EIATTR_MAX_THREADS/ { bounds = 1; next }
		/Value:/ { if (bounds) { x = $2; t = 0; for (i = 3; i <= length(x); i++) t = 16 * t + index("0123456789abcdef", substr(x, i, 1)) - 1; limit[sm, kernel] = t } bounds = 0; next }
		/^ Function / { kernel = $2; sub(/:$/, "", kernel); next }
		/^ +REG:/ {
			for (i = 1; i <= NF; i++) { split($i, f, ":"); used[f[1]] = f[2] }
			key = sm SUBSEP kernel; order[++n] = key
			reg[key] = used["REG"]; shared[key] = used["SHARED"] - (sm + 0 >= 90 && used["SHARED"] ? 1024 : 0); stack[key] = used["STACK"] + used["LOCAL"]
			next
		}
		/Function :/ { key = sm SUBSEP $NF; next }
		/^ +\/\*[0-9a-f]+\*\// {
			op = $2 ~ /^@/ ? $3 : $2
			here = hex($1)
			if (op !~ /^NOP/) all[key]++
			before[key, here] = all[key] - (op !~ /^NOP/); products[key, here] = mma[key]
			if (op ~ /^NOP/) next
			if (op ~ /^BRA/ && match($0, /0x[0-9a-f]+ ;/)) {
				target = hex(substr($0, RSTART + 2, RLENGTH - 4))
				if (target < here && (key, target) in before && (m = mma[key] - products[key, target]) > 0) {
					l = all[key] - before[key, target]
					if (!(key in loop) || l < loop[key]) { loop[key] = l; share[key] = 100 * m / l }
				}
			}
			if (op ~ /^(LDL|STL)/) local[key]++
			if (op ~ /^[A-Z0-9]*MMA(\.|$)/) mma[key]++  # not HFMA2.MMA
			if (op ~ /^LDGSTS/) async[key]++
			if (op ~ /^LDSM/) matrix[key]++
			if (op ~ /^(LD|LDG|LDS|LDGSTS)\..*(128|256)/) wide[key]++
		}
		END {
			for (i = 1; i <= n; i++) {
				key = order[i]; split(key, f, SUBSEP)
				if (!(f[1] in limits)) { print "sass: no limits of sm_" f[1] " are known" >"/dev/stderr"; exit 1 }
				t = key in limit ? limit[key] : threads
				printf "%s,%d,%d,%d,%d,%d,%d,%.0f,%d,%d,%d,%d,%d,%d,%.1f\n", f[2], f[1], t, reg[key], shared[key], stack[key], local[key],
					occupancy(f[1], t, reg[key], shared[key]), all[key], mma[key], async[key], matrix[key], wide[key], loop[key], share[key]
			}
		}' >"$work/$name.csv"
	cp "$work/$name.csv" "$kept"
}
mapfile -t modules < <(header | sed -n 's/^module //p')
half() { for ((m = $1; m < ${#modules[@]}; m += 2)); do read_module ${modules[m]} || return 1; done; }
half 1 &
other=$!
half 0
wait "$other"
{
	echo "# nvcc $release; made by make sass"
	echo kernel,sm,threads,registers,shared,stack,local,occupancy,instructions,mma,ldgsts,ldsm,wide,loop,share
	cat "$work"/*.csv | sort -t , -k 1,1 -k 2,2n
} >"$work/table"
rows=$(($(wc -l <"$work/table") - 2))
want=$(($(header | grep -c '^kernel ') * $(header | sed -n 's/^sm //p' | wc -w)))
[ "$rows" = "$want" ] || {
	echo "sass: read $rows kernels of $want: cuobjdump's output is not understood" >&2
	exit 1
}

awk -F , '/^#/ || $1 == "kernel" { next }
	{ n++; if ($6 + $7) { print "sass: " $1 " on sm_" $2 " uses " $6 " bytes of local memory (" $7 " instructions)"; bad++ } }
	END { exit bad > 0 }' "$work/table" >&2 || failed=yes
if [ "${1:-}" = check ]; then
	was=$(sed -n '1s/^# nvcc \([0-9.]*\);.*/\1/p' "$table")
	if [ "$was" != "$release" ]; then
		echo "sass: $table is of nvcc $was, the image of nvcc $release: registers are not compared"
	else
		awk -F , '/^#/ || $1 == "kernel" { next }
			NR == FNR { reg[$1, $2] = $4; share[$1, $2] = $15; next }
			!(($1, $2) in reg) { print "sass: " $1 " on sm_" $2 " is not in the table: make sass"; bad++; next }
			$4 > reg[$1, $2] { print "sass: " $1 " on sm_" $2 " has " $4 " registers, the table " reg[$1, $2]; bad++ }
			$15 + 1 < share[$1, $2] { print "sass: " $1 " on sm_" $2 " has " $15 " % on tensor cores in its main loop, the table " share[$1, $2]; bad++ }
			{ delete reg[$1, $2] }
			END { for (k in reg) { split(k, f, SUBSEP); print "sass: the table has " f[1] " on sm_" f[2] ", the image has not: make sass"; bad++ }; exit bad > 0 }' \
			"$table" "$work/table" >&2 || failed=yes
	fi
else
	cp "$work/table" "$table"
	echo "sass: $table, $rows rows"
fi
awk -F , '/^#/ || $1 == "kernel" { next }
	{ n[$2]++; if ($4 > r[$2]) r[$2] = $4; if ($1 ~ /^conv_/ && $10 && (!($2 in t) || $15 < t[$2])) t[$2] = $15; if (!($2 in o) || $8 < o[$2]) o[$2] = $8; l[$2] += ($6 + $7 > 0); h[$2] += ($10 > 0); w[$2] += ($13 > 0) }
	END { for (s in n) printf "sm_%-4d %4d kernels: %d with local memory, at most %3d registers, occupancy %3d %% or more, %d with tensor cores (of convolutions %s %% or more of the main loop), %d with 16-byte loads\n", s, n[s], l[s], r[s], o[s], h[s], t[s], w[s] }' \
	"$work/table" | sort -V
[ -z "${failed:-}" ]
