"""The ways in which PyTorch computes each product: (name, function without arguments) for one workload.

B examples, P parameters, all of them differentiated; the loss is the mean softmax cross-entropy. torch.func throughout,
the gradient and the training step by autograd; BackPACK and curvlinops where they can be imported and know the layers.
"""
import copy

import torch
import torch.nn.functional as F
from torch.func import functional_call, grad, jvp, vjp, vmap

try:
    import backpack
    from backpack.extensions import SumGradSquared
except Exception:  # optional, and any failure to import it means that it takes no part
    backpack = None
try:
    import curvlinops
except Exception:
    curvlinops = None


def formats(inputs):
    """Memory formats that are tried: channels-last too where there are channels."""
    both = [("contiguous", torch.contiguous_format), ("channels-last", torch.channels_last)]
    return both if inputs.dim() == 4 and inputs.shape[1] > 1 else both[:1]


def ways(quantity, module, inputs, labels, tangent, compiled=False):
    """With `compiled` each way is tried through torch.compile too, where that can take it."""
    for name, memory_format in formats(inputs):
        net = copy.deepcopy(module).to(memory_format=memory_format)
        x = inputs.contiguous(memory_format=memory_format)
        for detail, run in of_format(quantity, net, x, labels, tangent):
            yield ", ".join(part for part in (detail, name) if part), run
            if compiled and not hasattr(run, "restart"):
                yield ", ".join(part for part in (detail, name, "compiled") if part), torch.compile(run)


def of_format(quantity, net, x, labels, v):
    p = {name: t.detach() for name, t in net.named_parameters()}
    buffers = dict(net.named_buffers())
    v = {name: v[name].contiguous(memory_format=torch.channels_last) if t.is_contiguous(
        memory_format=torch.channels_last) and t.dim() == 4 else v[name] for name, t in p.items()}
    batch = len(x)

    def logits(p):
        return functional_call(net, (p, buffers), (x,))

    def loss(p):
        return F.cross_entropy(logits(p), labels)

    def loss_of_one(p, x, label):
        return F.cross_entropy(functional_call(net, (p, buffers), (x[None],)), label[None])

    def forward():
        with torch.no_grad():
            return net(x)

    def gradient():
        net.zero_grad()
        F.cross_entropy(net(x), labels).backward()
        return {name: t.grad for name, t in net.named_parameters()}

    def ggn_product():
        out, out_dot = jvp(logits, (p,), (v,))
        s = out.softmax(-1)
        _, pull = vjp(logits, p)
        return pull((s * out_dot - s * (s * out_dot).sum(-1, keepdim=True)) / batch)[0]

    def fisher(chunk):
        each = vmap(grad(loss_of_one), (None, 0, 0), chunk_size=chunk)(p, x, labels)
        return {name: (t * t).mean(0) for name, t in each.items()}

    if quantity == "forward":
        yield "", forward
    elif quantity == "gradient":
        yield "", gradient
    elif quantity == "jvp":
        yield "torch.func", lambda: jvp(logits, (p,), (v,))[1]
    elif quantity == "ggnProduct":
        yield "torch.func", ggn_product
        if curvlinops is not None:
            yield "curvlinops", curvlinops_product("GGNLinearOperator", net, x, labels, v)
    elif quantity == "hessianProduct":
        yield "torch.func", lambda: jvp(grad(loss), (p,), (v,))[1]
        if curvlinops is not None:
            yield "curvlinops", curvlinops_product("HessianLinearOperator", net, x, labels, v)
    elif quantity == "trainingStep":
        yield "autograd, SGD", training_step(net, x, labels)
    elif quantity == "fisherDiagonal":
        for chunk in (None, 32, 8):
            if chunk is None or chunk < batch:
                yield f"torch.func, chunks of {chunk or batch}", lambda chunk=chunk: fisher(chunk)
        if backpack is not None and isinstance(net, torch.nn.Sequential):
            yield "BackPACK", backpack_fisher(net, x, labels)
    else:
        raise ValueError(f"expected a quantity, got {quantity}")


def training_step(net, x, labels):
    """Batch normalisation in training mode; the same SGD as bench/training.ts. Gives the weights after the step."""
    net = copy.deepcopy(net).train()
    start = copy.deepcopy(net.state_dict())
    new_optimizer = lambda: torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, nesterov=True)
    state = {"optimizer": new_optimizer()}

    def run():
        optimizer = state["optimizer"]
        optimizer.zero_grad()
        F.cross_entropy(net(x), labels).backward()
        optimizer.step()
        return {name: t.detach() for name, t in net.named_parameters()}

    def restart():
        net.load_state_dict(start)
        state["optimizer"] = new_optimizer()

    run.restart = restart
    return run


def curvlinops_product(kind, net, x, labels, v):
    """The operator is made once; it goes through the batch in every product."""
    names, state = list(v), []

    def run():
        if not state:
            parameters = [t for _, t in net.named_parameters()]
            make = getattr(curvlinops, kind)
            data, loss = [(x, labels)], torch.nn.CrossEntropyLoss()
            state.append(make(net, loss, parameters, data, check_deterministic=False))
        return dict(zip(names, state[0] @ [v[name] for name in names]))

    return run


def backpack_fisher(net, x, labels):
    """SumGradSquared sums (1/B g)^2 over the examples: B times that is the mean of g^2."""
    state = []

    def run():
        if not state:
            state.extend([backpack.extend(copy.deepcopy(net)), backpack.extend(torch.nn.CrossEntropyLoss())])
        model, criterion = state
        model.zero_grad()
        with backpack.backpack(SumGradSquared()):
            criterion(model(x), labels).backward()
        return {name: t.sum_grad_squared * len(x) for name, t in model.named_parameters()}

    return run
