"""PyTorch beside the CUDA kernels, on the same GPU: runs every product that palimpsest_bench_cuda --json FILE wrote.

    python3 bench/peers/cuda_kernels.py FILE

Prints a row's own time, the library's, PyTorch's (cudnn.benchmark on, TF32 as in the row, the better of contiguous and
channels-last) and own and best of ours over PyTorch's. Per-example squares are vmap(grad) and a sum in PyTorch.
"""
import json
import sys
from collections import defaultdict

import torch
import torch.nn.functional as F
from torch.func import grad, vmap

DTYPES = {"f32": torch.float32, "tf32": torch.float32, "f64": torch.float64}


def milliseconds(run):
    """Median of 11 groups of about 5 ms each between two events."""
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)

    def group(runs):
        begin.record()
        for _ in range(runs):
            run()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / runs

    group(3)
    runs = max(1, min(200, int(5 / max(1e-3, group(1)))))
    return sorted(group(runs) for _ in range(11))[5]


def values(*dims, dtype):
    count = 1
    for size in dims:
        count *= size
    return ((torch.arange(count, device="cuda") * 7919 % 1009).to(dtype) / 1009 - 0.5).reshape(dims)


def of_gemm(row, dtype):
    batch, m, k, n = row["shape"]
    a = values(batch, k, m, dtype=dtype).mT if row["trans_a"] else values(batch, m, k, dtype=dtype)
    b = values(batch, n, k, dtype=dtype).mT if row["trans_b"] else values(batch, k, n, dtype=dtype)
    if batch == 1:
        a, b = a[0], b[0]
    out = torch.matmul(a, b)
    yield lambda: torch.matmul(a, b, out=out)


def of_conv(row, dtype):
    n, c, size, o, kernel, stride, groups = row["shape"]
    pad = kernel // 2
    for layout in (torch.contiguous_format, torch.channels_last):
        x = values(n, c, size, size, dtype=dtype).contiguous(memory_format=layout)
        w = values(o, c // groups, kernel, kernel, dtype=dtype).contiguous(memory_format=layout)
        y = torch.ones_like(F.conv2d(x, w, None, stride, pad, 1, groups))

        def adjoint(mask):
            return torch.ops.aten.convolution_backward(
                y, x, w, None, [stride] * 2, [pad] * 2, [1, 1], False, [0, 0], groups, mask)

        def squares():
            def inner(w, x, y):
                return (F.conv2d(x[None], w, None, stride, pad, 1, groups)[0] * y).sum()
            return vmap(grad(inner), (None, 0, 0), chunk_size=min(n, 32))(w, x, y).square_().sum(0)

        yield {
            "conv": lambda: F.conv2d(x, w, None, stride, pad, 1, groups),
            "conv_input_gradient": lambda: adjoint([True, False, False]),
            "conv_weight_gradient": lambda: adjoint([False, True, False]),
            "conv_grad_squares": squares,
        }[row["kind"]]


def of_linear_squares(row, dtype):
    n, t, i, o = row["shape"]
    x, y = values(n, t, i, dtype=dtype), values(n, t, o, dtype=dtype)
    if t == 1:
        yield lambda: x[:, 0].square().T @ y[:, 0].square()
    yield lambda: torch.einsum("nti,nto->nio", x, y).square_().sum(0)


WAYS = {
    "gemm": of_gemm,
    "conv": of_conv,
    "conv_input_gradient": of_conv,
    "conv_weight_gradient": of_conv,
    "conv_grad_squares": of_conv,
    "linear_grad_squares": of_linear_squares,
}


def peer(row):
    tf32 = row["dtype"] == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    best = float("inf")
    for run in WAYS[row["kind"]](row, DTYPES[row["dtype"]]):
        try:
            best = min(best, milliseconds(run))
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
    return best


def main(path):
    torch.backends.cudnn.benchmark = True
    rows = defaultdict(dict)
    with open(path) as file:
        for line in file:
            row = json.loads(line)
            rows[row["name"]][row["way"]] = row
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}")
    print(f"{'row':70} {'own ms':>10} {'library ms':>10} {'PyTorch ms':>10} {'own/PyT':>8} {'best/PyT':>8}")
    for name, ways in rows.items():
        own = ways["own"]
        if own["kind"] not in WAYS:
            continue
        theirs = peer(own)
        library = ways.get("library", {}).get("milliseconds")
        best = min(own["milliseconds"], library or float("inf"))
        print(f"{name:70} {own['milliseconds']:10.4f} {f'{library:.4f}' if library else '-':>10} {theirs:10.4f} "
              f"{own['milliseconds'] / theirs:8.2f} {best / theirs:8.2f}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
