"""A causal-attention block: pre-norm, several heads, an MLP with GELU."""

import math

import torch
import torch.nn.functional as F


def inputs():
    g = torch.Generator().manual_seed(5)
    shapes = (8,), (8,), (8, 24), (8, 8), (8,), (8,), (8, 16), (16,), (16, 8), (8,)
    parameters = [(torch.randn(shape, generator=g) * 0.4).requires_grad_() for shape in shapes]
    return [torch.randn((2, 5, 8), generator=g).requires_grad_(), *parameters, torch.randn((2, 5, 8), generator=g), 2]


def forward(x, g1, b1, Wqkv, Wo, g2, b2, W1, bias1, W2, bias2, target, n_head):
    B, T, C = x.shape
    # attention
    xn = F.layer_norm(x, (C,), g1, b1)
    q, k, v = (xn @ Wqkv).split(C, dim=2)
    q = q.view(B, T, n_head, -1).transpose(1, 2)
    k = k.view(B, T, n_head, -1).transpose(1, 2)
    v = v.view(B, T, n_head, -1).transpose(1, 2)
    scores = q @ k.transpose(-2, -1) / math.sqrt(C // n_head)
    future = torch.triu(torch.ones(T, T, dtype=torch.bool), 1)
    weights = F.softmax(scores.masked_fill(future, -math.inf), dim=-1)
    mixed = (weights @ v).transpose(1, 2).reshape(B, T, C)
    x1 = x + mixed @ Wo
    # MLP
    xn1 = F.layer_norm(x1, (C,), g2, b2)
    a = F.gelu(xn1 @ W1 + bias1)
    out = x1 + a @ W2 + bias2
    loss = ((out - target) ** 2).mean()
    return loss

# -- derived


def forward_and_backward(x, g1, b1, Wqkv, Wo, g2, b2, W1, bias1, W2, bias2, target, n_head):
    B, T, C = x.shape
    # attention
    xn = F.layer_norm(x, (C,), g1, b1)
    q, k, v = (xn @ Wqkv).split(C, dim=2)
    q = q.view(B, T, n_head, -1).transpose(1, 2)
    k = k.view(B, T, n_head, -1).transpose(1, 2)
    v = v.view(B, T, n_head, -1).transpose(1, 2)
    scores = q @ k.transpose(-2, -1) / math.sqrt(C // n_head)
    future = torch.triu(torch.ones(T, T, dtype=torch.bool), 1)
    weights = F.softmax(scores.masked_fill(future, -math.inf), dim=-1)
    mixed = (weights @ v).transpose(1, 2).reshape(B, T, C)
    x1 = x + mixed @ Wo
    # MLP
    xn1 = F.layer_norm(x1, (C,), g2, b2)
    a = F.gelu(xn1 @ W1 + bias1)
    out = x1 + a @ W2 + bias2
    loss = ((out - target) ** 2).mean()

    # what the forward computed and did not keep
    v_1 = v
    k_1 = k
    q_1 = q
    a_in = xn1 @ W1 + bias1  # (B, T, 16)

    # loss = ((out - target) ** 2).mean()
    dout = 2 * (out - target) / (B * T * C)  # (B, T, C)
    # out = x1 + a @ W2 + bias2
    dbias2 = dout.sum((0, 1))  # (C,)
    dx1 = dout.clone()  # (B, T, C)
    da = dout @ W2.T  # (B, T, 16)
    dW2 = a.reshape(-1, a.shape[2]).T @ dout.reshape(-1, C)  # (16, C)
    # a = F.gelu(xn1 @ W1 + bias1)
    cdf = 0.5 * (1.0 + torch.erf(a_in / 2**0.5))  # (B, T, 16)
    pdf = torch.exp(-0.5 * a_in**2) / (2 * math.pi)**0.5  # (B, T, 16)
    da_in = (cdf + a_in * pdf) * da  # (B, T, 16)
    dbias1 = da_in.sum((0, 1))  # (16,)
    dxn1 = da_in @ W1.T  # (B, T, C)
    dW1 = xn1.reshape(-1, C).T @ da_in.reshape(-1, W1.shape[1])  # (C, 16)
    # xn1 = F.layer_norm(x1, (C,), g2, b2)
    db2 = dxn1.sum((0, 1))  # (C,)
    rstd = torch.rsqrt(x1.var(-1, unbiased=False, keepdim=True) + 1e-05)  # (B, T, 1)
    xhat = (x1 - x1.mean(-1, keepdim=True)) * rstd  # (B, T, C)
    dg2 = (xhat * dxn1).sum((0, 1))  # (C,)
    dxhat = dxn1 * g2  # (B, T, C)
    dx1 += rstd * (dxhat - dxhat.mean(-1, keepdim=True) - xhat * (dxhat * xhat).mean(-1, keepdim=True))  # (B, T, C)
    # x1 = x + mixed @ Wo
    dx = dx1.clone()  # (B, T, C)
    dmixed = dx1 @ Wo.T  # (B, T, C)
    dWo = mixed.reshape(-1, C).T @ dx1.reshape(-1, C)  # (C, C)
    # mixed = (weights @ v).transpose(1, 2).reshape(B, T, C)
    dmixed_in = dmixed.reshape(B, T, n_head, v.shape[3]).transpose(1, 2)  # (B, n_head, T, 4)
    dweights = dmixed_in @ v_1.transpose(-2, -1)  # (B, n_head, T, T)
    dv_1 = weights.transpose(-2, -1) @ dmixed_in  # (B, n_head, T, 4)
    # weights = F.softmax(scores.masked_fill(future, -math.inf), dim=-1)
    dscores = (weights * (dweights - (weights * dweights).sum(-1, keepdim=True))).masked_fill(future, 0)  # (B, n_head, T, T)
    # scores = q @ k.transpose(-2, -1) / math.sqrt(C // n_head)
    dq_1 = dscores / math.sqrt(C // n_head) @ k_1  # (B, n_head, T, 4)
    dk_1 = (q_1.transpose(-2, -1) @ (dscores / math.sqrt(C // n_head))).transpose(-2, -1)  # (B, n_head, T, 4)
    # v = v.view(B, T, n_head, -1).transpose(1, 2)
    dv = dv_1.transpose(1, 2).reshape(B, T, C)  # (B, T, C)
    # k = k.view(B, T, n_head, -1).transpose(1, 2)
    dk = dk_1.transpose(1, 2).reshape(B, T, C)  # (B, T, C)
    # q = q.view(B, T, n_head, -1).transpose(1, 2)
    dq = dq_1.transpose(1, 2).reshape(B, T, C)  # (B, T, C)
    # q, k, v = (xn @ Wqkv).split(C, dim=2)
    dq_in = torch.cat([dq, dk, dv], 2)  # (B, T, 24)
    dxn = dq_in @ Wqkv.T  # (B, T, C)
    dWqkv = xn.reshape(-1, C).T @ dq_in.reshape(-1, Wqkv.shape[1])  # (C, 24)
    # xn = F.layer_norm(x, (C,), g1, b1)
    db1 = dxn.sum((0, 1))  # (C,)
    rstd_1 = torch.rsqrt(x.var(-1, unbiased=False, keepdim=True) + 1e-05)  # (B, T, 1)
    xhat_1 = (x - x.mean(-1, keepdim=True)) * rstd_1  # (B, T, C)
    dg1 = (xhat_1 * dxn).sum((0, 1))  # (C,)
    dxhat_1 = dxn * g1  # (B, T, C)
    dx += rstd_1 * (dxhat_1 - dxhat_1.mean(-1, keepdim=True) - xhat_1 * (dxhat_1 * xhat_1).mean(-1, keepdim=True))  # (B, T, C)
    return locals()
