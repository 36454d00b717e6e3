"""Times one repetition of a product of PyTorch on request: JSON lines on stdin are answered on stdout.

    python serve.py THREADS [DEVICE [float32|tf32]]
{"do": "load", "workload", "path", "parameters": [[name, shape], ...], "inputs": shape, "labels": [...]}
    the file has float32 values: the parameters, a tangent of the same shapes, the inputs
{"do": "prepare", "quantity"}   tries every way and keeps the quickest: {"way", "tried": [[way, milliseconds], ...],
    "failed": [[way, why], ...], "memory": bytes over what was resident before, or null}
{"do": "time"}                  one repetition: {"wall", "cpu"} in milliseconds
{"do": "result", "path"}        what the way computed, as float32 in the order of the parameters: {"values"}
"""
import gc
import json
import sys
import time

import torch

from networks import NETWORKS
from ways import ways

state = {}
device = torch.device(sys.argv[2] if len(sys.argv) > 2 else "cpu")
on_gpu = device.type == "cuda"


def wait():
    if on_gpu:
        torch.cuda.synchronize(device)


def product(shape):
    total = 1
    for size in shape:
        total *= size
    return total


def load(request):
    state.clear()
    shapes = dict((name, shape) for name, shape in request["parameters"])
    sizes = {name: product(shape) for name, shape in shapes.items()}
    count = sum(sizes.values())
    inputs = product(request["inputs"])
    flat = torch.from_file(request["path"], size=2 * count + inputs, dtype=torch.float32).clone().to(device)
    parts = flat[: 2 * count].split(list(sizes.values()) * 2)
    named = lambda parts: {name: t.reshape(shapes[name]).clone() for name, t in zip(sizes, parts)}
    module = NETWORKS[request["workload"]]().eval()
    module.to(device)
    missing = module.load_state_dict(named(parts[: len(sizes)]), strict=False)
    left = [name for name in missing.missing_keys if not name.split(".")[-1].startswith(("running_", "num_batches"))]
    if left or missing.unexpected_keys:
        raise ValueError(f"parameters differ: {left} are not given, {missing.unexpected_keys} not known")
    state.update(names=list(sizes), module=module, tangent=named(parts[len(sizes) :]))
    state.update(inputs=flat[2 * count :].reshape(request["inputs"]).clone(), labels=torch.tensor(request["labels"], device=device))
    return {}


def timed(run):
    wait()
    wall, cpu = time.perf_counter(), time.process_time()
    result = run()
    wait()
    return {"wall": (time.perf_counter() - wall) * 1e3, "cpu": (time.process_time() - cpu) * 1e3}, result


def status(field):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(field))


def peak_memory(run):
    """Highest memory of one repetition, resident or of the GPU, over what was held before; None where it is not told."""
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        wait()
        return torch.cuda.max_memory_allocated(device) - before
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        before = status("VmRSS")
    except (OSError, StopIteration):
        return None
    run()
    return status("VmHWM") - before


def prepare(request):
    state.pop("run", None)
    tried, failed, best = [], [], None
    every = ways(request["quantity"], state["module"], state["inputs"], state["labels"], state["tangent"], on_gpu)
    for name, run in every:
        gc.collect()
        try:
            took = timed(run)[0]["wall"]
            if best is None or took < 1.5 * best[0]:  # the first call warms up; a way far behind needs no second one
                took = min(timed(run)[0]["wall"] for _ in range(3 if took < 2000 else 1))
        except Exception as error:
            failed.append([name, f"{type(error).__name__}: {error}".split("\n")[0][:200]])
            continue
        tried.append([name, took])
        if best is None or took < best[0]:
            best = (took, name, run)
    if best is None:
        raise RuntimeError(f"no way worked: {failed}")
    state["run"] = best[2]
    gc.collect()
    return {"way": best[1], "tried": tried, "failed": failed, "memory": peak_memory(best[2])}


def result(request):
    restart = getattr(state["run"], "restart", None)
    if restart is not None:  # what a repetition changes goes back to where both sides began
        restart()
    value = state["run"]()
    parts = [value] if torch.is_tensor(value) else [value[name] for name in state["names"]]
    flat = torch.cat([t.detach().contiguous().reshape(-1) for t in parts]).cpu()
    torch.from_file(request["path"], shared=True, size=len(flat), dtype=torch.float32).copy_(flat)
    return {"values": len(flat)}


def answer(request):
    if request["do"] == "load":
        return load(request)
    if request["do"] == "prepare":
        return prepare(request)
    if request["do"] == "time":
        return timed(state["run"])[0]
    if request["do"] == "result":
        return result(request)
    raise ValueError(f"expected a request, got {request['do']}")


def main():
    torch.set_num_threads(int(sys.argv[1]))
    if on_gpu:
        tf32 = sys.argv[3:] == ["tf32"]
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
        torch.zeros(1, device=device)  # where there is no such device, it is said here
    print(json.dumps({"peer": f"PyTorch {torch.__version__}", "threads": torch.get_num_threads()}), flush=True)
    for line in sys.stdin:
        try:
            reply = answer(json.loads(line))
        except Exception as error:  # the other side prints it
            reply = {"error": f"{type(error).__name__}: {error}".split("\n")[0][:500]}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
