"""The names model with library calls: what one writes without an exercise."""

import torch
import torch.nn.functional as F


def inputs():
    g = torch.Generator().manual_seed(2)
    shapes = (27, 10), (30, 16), (16,), (16, 27), (27,), (16,), (16,)
    parameters = [(torch.randn(shape, generator=g) * 0.3).requires_grad_() for shape in shapes]
    return [*parameters, torch.randint(0, 27, (8, 3), generator=g), torch.randint(0, 27, (8,), generator=g)]


def forward(C, W1, b1, W2, b2, gain, bias, X, Y):
    x = C[X].flatten(1)
    pre = x @ W1 + b1
    mean, var = pre.mean(0), pre.var(0)
    norm = (pre - mean) / torch.sqrt(var + 1e-5)
    h = torch.relu(gain * norm + bias)
    logits = h @ W2 + b2
    loss = F.cross_entropy(logits, Y)
    return loss

# -- derived


def forward_and_backward(C, W1, b1, W2, b2, gain, bias, X, Y):
    x = C[X].flatten(1)
    pre = x @ W1 + b1
    mean, var = pre.mean(0), pre.var(0)
    norm = (pre - mean) / torch.sqrt(var + 1e-5)
    h = torch.relu(gain * norm + bias)
    logits = h @ W2 + b2
    loss = F.cross_entropy(logits, Y)

    # loss = F.cross_entropy(logits, Y)
    dlogits = (F.softmax(logits, 1) - F.one_hot(Y, logits.shape[1])) / Y.shape[0]  # (8, 27)
    # logits = h @ W2 + b2
    db2 = dlogits.sum(0)  # (27,)
    dh = dlogits @ W2.T  # (8, 16)
    dW2 = h.T @ dlogits  # (16, 27)
    # h = torch.relu(gain * norm + bias)
    dh_in = (h > 0) * dh  # (8, 16)
    dbias = dh_in.sum(0)  # (16,)
    dgain = (norm * dh_in).sum(0)  # (16,)
    dnorm = gain * dh_in  # (8, 16)
    # norm = (pre - mean) / torch.sqrt(var + 1e-5)
    dvar = (-(pre - mean) / torch.sqrt(var + 1e-5) / torch.sqrt(var + 1e-5) * dnorm).sum(0) / (2 * torch.sqrt(var + 1e-5))  # (16,)
    dpre = dnorm / torch.sqrt(var + 1e-5)  # (8, 16)
    dmean = (-dnorm / torch.sqrt(var + 1e-5)).sum(0)  # (16,)
    # mean, var = pre.mean(0), pre.var(0)
    dpre += 2 * ((pre - pre.mean(0, keepdim=True)) / (pre.shape[0] - 1)) * dvar  # (8, 16)
    dpre += dmean / pre.shape[0]  # (8, 16)
    # pre = x @ W1 + b1
    db1 = dpre.sum(0)  # (16,)
    dx = dpre @ W1.T  # (8, 30)
    dW1 = x.T @ dpre  # (30, 16)
    # x = C[X].flatten(1)
    dC = torch.zeros_like(C)
    dC.index_put_((X,), dx.reshape(X.shape[0], X.shape[1], C.shape[1]), accumulate=True)  # (27, 10)
    return locals()
