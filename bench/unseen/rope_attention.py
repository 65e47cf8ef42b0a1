# Causal attention with rotary position embeddings (RoFormer, Su et al. 2021).
import math

import torch

torch.manual_seed(6)
B, T, H, D = 2, 7, 2, 8
C = H * D
x = torch.randn(B, T, C)
target = torch.randn(B, T, C)
Wqkv = (torch.randn(C, 3 * C) / math.sqrt(C)).requires_grad_()
Wo = (torch.randn(C, C) / math.sqrt(C)).requires_grad_()

inv_freq = 1.0 / (10000 ** (torch.arange(0, D, 2).float() / D))
angles = torch.outer(torch.arange(T).float(), inv_freq)
cos, sin = angles.cos(), angles.sin()


def rotate(u):
    even, odd = u[..., 0::2], u[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


qkv = x @ Wqkv
q, k, v = qkv.split(C, dim=-1)
q = rotate(q.view(B, T, H, D).transpose(1, 2))
k = rotate(k.view(B, T, H, D).transpose(1, 2))
v = v.view(B, T, H, D).transpose(1, 2)
att = q @ k.transpose(-2, -1) / math.sqrt(D)
mask = torch.tril(torch.ones(T, T)).bool()
att = att.masked_fill(~mask, float("-inf")).softmax(dim=-1)
y = (att @ v).transpose(1, 2).reshape(B, T, C)
out = y @ Wo
loss = ((out - target) ** 2).mean()
