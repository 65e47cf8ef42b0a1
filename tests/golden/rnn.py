"""A recurrent network over time, with a loss at every step."""

import torch
import torch.nn.functional as F


def inputs():
    g = torch.Generator().manual_seed(3)
    shapes = (11, 4), (4, 6), (6, 6), (6,), (6, 11)
    parameters = [(torch.randn(shape, generator=g) * 0.4).requires_grad_() for shape in shapes]
    return [*parameters, torch.randint(0, 11, (3, 5), generator=g), torch.randint(0, 11, (3, 5), generator=g)]


def forward(C, Wx, Wh, b, Wy, X, Y):
    n, T = X.shape
    emb = C[X]
    h = torch.zeros(n, Wh.shape[0])
    loss = 0.0
    for t in range(T):
        h = torch.tanh(emb[:, t] @ Wx + h @ Wh + b)
        logits = h @ Wy
        loss = loss + F.cross_entropy(logits, Y[:, t]) / T
    return loss

# -- derived


def forward_and_backward(C, Wx, Wh, b, Wy, X, Y):
    n, T = X.shape
    emb = C[X]
    h = torch.zeros(n, Wh.shape[0])
    loss = 0.0
    for t in range(T):
        h = torch.tanh(emb[:, t] @ Wx + h @ Wh + b)
        logits = h @ Wy
        loss = loss + F.cross_entropy(logits, Y[:, t]) / T

    # the loop again, to keep what its backward reads
    logits_at, h_at, h_prev_at = {}, {}, {}
    h = torch.zeros(n, Wh.shape[0])
    for t in range(T):
        h_prev_at[t] = h
        h = torch.tanh(emb[:, t] @ Wx + h @ Wh + b)
        logits = h @ Wy
        logits_at[t] = logits
        h_at[t] = h

    demb = torch.zeros_like(emb)  # (n, T, 4)
    dWx = torch.zeros_like(Wx)  # (4, 6)
    dWh = torch.zeros_like(Wh)  # (6, 6)
    db = torch.zeros_like(b)  # (6,)
    dWy = torch.zeros_like(Wy)  # (6, 11)
    dh = torch.zeros_like(h)  # (n, 6)
    for t in reversed(range(T)):
        logits, h, h_prev = logits_at[t], h_at[t], h_prev_at[t]
        # loss = loss + F.cross_entropy(logits, Y[:, t]) / T
        dlogits = (F.softmax(logits, 1) - F.one_hot(Y[:, t], Wy.shape[1])) / n / T  # (n, 11)
        # logits = h @ Wy
        dh += dlogits @ Wy.T  # (n, 6)
        dWy += h.T @ dlogits  # (6, 11)
        # h = torch.tanh(emb[:, t] @ Wx + h @ Wh + b)
        dh_in = (1.0 - h**2) * dh  # (n, 6)
        db += dh_in.sum(0)  # (6,)
        dh_prev = dh_in @ Wh.T  # (n, 6)
        dWh += h_prev.T @ dh_in  # (6, 6)
        dWx += emb[:, t].T @ dh_in  # (4, 6)
        demb[:, t] += dh_in @ Wx.T  # (n, T, 4)
        dh = dh_prev
    # emb = C[X]
    dC = torch.zeros_like(C)
    dC.index_put_((X,), demb, accumulate=True)  # (11, 4)
    return locals()
