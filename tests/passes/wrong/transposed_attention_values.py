# 4-D tensors: (batch, head, time, head size); x feeds q, k and v, so its gradient has three branches
import torch

torch.manual_seed(18)
B, T, C, nh = 2, 5, 12, 3
hs = C // nh
x = torch.randn(B, T, C, requires_grad=True)
Wqkv = (torch.randn(C, 3 * C) * 0.2).requires_grad_()
Wo = (torch.randn(C, C) * 0.2).requires_grad_()

qkv = x @ Wqkv  # (B, T, 3 C)
q, k, v = (u.view(B, T, nh, hs).transpose(1, 2) for u in qkv.split(C, dim=2))  # (B, nh, T, hs)
att = (q @ k.transpose(-2, -1)) * hs**-0.5
att = att.masked_fill(torch.triu(torch.ones(T, T, dtype=torch.bool), 1), float("-inf"))
p = att.softmax(-1)
y = p @ v
yc = y.transpose(1, 2).reshape(B, T, C)
out = x + yc @ Wo
loss = out.pow(2).sum() / B
loss.backward()

dout = 2 * out / B
dyc = dout @ Wo.T
dWo = yc.reshape(-1, C).T @ dout.reshape(-1, C)
dy = dyc.view(B, T, nh, hs).transpose(1, 2)
dp = dy @ v.transpose(-2, -1)
dv = p @ dy  # HG215
datt = p * (dp - (dp * p).sum(-1, keepdim=True))
dq = datt @ k * hs**-0.5
dk = datt.transpose(-2, -1) @ q * hs**-0.5
dqkv = torch.cat([d.transpose(1, 2).reshape(B, T, C) for d in (dq, dk, dv)], dim=2)
dWqkv = torch.einsum("btc,btd->cd", x, dqkv)
dx = dout + dqkv @ Wqkv.T
for mine, t in ((dWo, Wo), (dWqkv, Wqkv), (dx, x)):
    print(mine.shape == t.grad.shape and torch.allclose(mine, t.grad, atol=1e-5))
