import torch

torch.manual_seed(20)
B, T, D, H = 4, 7, 3, 6
x = torch.randn(B, T, D)
target = torch.randn(B, 1)
Wx = (torch.randn(D, H) * 0.5).requires_grad_()
Wh = (torch.randn(H, H) * 0.5).requires_grad_()
b = torch.zeros(H, requires_grad=True)
Wy = torch.randn(H, 1, requires_grad=True)

hs = [torch.zeros(B, H)]
for t in range(T):
    hs.append(torch.tanh(x[:, t] @ Wx + hs[-1] @ Wh + b))
y = hs[-1] @ Wy
loss = ((y - target) ** 2).mean()
loss.backward()

dy = 2 * (y - target) / B
dWy = hs[-1].T @ dy
dWx, dWh, db = torch.zeros_like(Wx), torch.zeros_like(Wh), torch.zeros_like(b)
upstream = dy @ Wy.T
for t in range(T - 1, -1, -1):
    draw = upstream * (1 - hs[t + 1] ** 2)
    dWx += x[:, t].T @ draw
    dWh += hs[t + 1].T @ draw  # HG222
    db += draw.sum(0)
    upstream = draw @ Wh.T
for d, p in ((dWy, Wy), (dWx, Wx), (dWh, Wh), (db, b)):
    print(torch.allclose(d, p.grad, atol=1e-6))
