"""A causal-attention block, pre-norm, with an MLP: a forward and nothing else. `handgrad derive` writes its backward."""

import math

import torch
import torch.nn.functional as F

torch.manual_seed(1)
B, T, C, n_head = 2, 5, 8, 2
parameters = g1, b1, Wqkv, Wo, g2, b2, W1, bias1, W2, bias2 = [
    torch.randn(shape) * 0.4
    for shape in [(C,), (C,), (C, 3 * C), (C, C), (C,), (C,), (C, 4 * C), (4 * C,), (4 * C, C), (C,)]
]
for p in parameters:
    p.requires_grad = True
x, target = torch.randn(B, T, C), torch.randn(B, T, C)

# attention
xn = F.layer_norm(x, (C,), g1, b1)
q, k, v = (xn @ Wqkv).split(C, dim=2)
qh = q.view(B, T, n_head, -1).transpose(1, 2)
kh = k.view(B, T, n_head, -1).transpose(1, 2)
vh = v.view(B, T, n_head, -1).transpose(1, 2)
scores = qh @ kh.transpose(-2, -1) * (C // n_head) ** -0.5
future = torch.triu(torch.ones(T, T, dtype=torch.bool), 1)
weights = F.softmax(scores.masked_fill(future, -math.inf), dim=-1)
mixed = (weights @ vh).transpose(1, 2).reshape(B, T, C)
x1 = x + mixed @ Wo
# MLP
x1n = F.layer_norm(x1, (C,), g2, b2)
a = F.gelu(x1n @ W1 + bias1)
out = x1 + a @ W2 + bias2
loss = ((out - target) ** 2).mean()
