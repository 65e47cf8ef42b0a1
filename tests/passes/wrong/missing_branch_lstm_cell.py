import torch

torch.manual_seed(22)
B, D, H = 3, 5, 4
x = torch.randn(B, D)
h0 = torch.randn(B, H, requires_grad=True)
c0 = torch.randn(B, H, requires_grad=True)
W = (torch.randn(D + H, 4 * H) * 0.3).requires_grad_()
b = torch.zeros(4 * H, requires_grad=True)

inp = torch.cat((x, h0), dim=1)
a = inp @ W + b  # (B, 4 H)
ai, af, ao, ag = a.chunk(4, dim=1)
i, f, o, g = torch.sigmoid(ai), torch.sigmoid(af), torch.sigmoid(ao), torch.tanh(ag)
c = f * c0 + i * g
tc = torch.tanh(c)
h = o * tc
loss = h.sum() + 0.5 * (c * c).sum()
for t in (inp, a, c, tc, h):
    t.retain_grad()
loss.backward()

dh = torch.ones_like(h)
dtc = dh * o
dc = dtc * (1 - tc**2)  # HG207
di, df, do, dg = dc * g, dc * c0, dh * tc, dc * i
dc0 = dc * f
da = torch.cat([di * i * (1 - i), df * f * (1 - f), do * o * (1 - o), dg * (1 - g**2)], dim=1)
dW = inp.T @ da
db = da.sum(0)
dinp = da @ W.T
dh0 = dinp[:, D:]
pairs = {"h": (dh, h), "tc": (dtc, tc), "c": (dc, c), "c0": (dc0, c0), "a": (da, a), "W": (dW, W), "b": (db, b), "h0": (dh0, h0)}
for name, (mine, t) in pairs.items():
    print(name, torch.allclose(mine, t.grad, atol=1e-6))
