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
