import torch

torch.manual_seed(21)
B, D, H = 5, 4, 6
x = torch.randn(B, D)
h_prev = torch.randn(B, H, requires_grad=True)
Wz, Wr, Wn = ((torch.randn(D + H, H) * 0.3).requires_grad_() for _ in range(3))

xh = torch.cat([x, h_prev], 1)  # (B, D + H)
z = torch.sigmoid(xh @ Wz)
r = torch.sigmoid(xh @ Wr)
rh = r * h_prev
xrh = torch.cat([x, rh], 1)
n = torch.tanh(xrh @ Wn)
h = (1 - z) * n + z * h_prev
loss = (h**2).sum()
for t in (xh, z, r, rh, xrh, n, h):
    t.retain_grad()
loss.backward()

dh = 2 * h
dn = dh * (1 - z)
dz = dh * (h_prev - n)
dh_prev = dh * z  # directly
dn_raw = dn * (1 - n**2)
dWn = xrh.T @ dn_raw
dxrh = dn_raw @ Wn.T
drh = dxrh[:, D:]
dr = drh * h_prev
dh_prev = dh_prev + drh * r  # through the reset gate
dz_raw = dz * z * (1 - z)
dr_raw = dr * r * (1 - r)
dWz = xh.T @ dz_raw
dWr = xh.T @ dr_raw
dxh = dz_raw @ Wz.T + dr_raw @ Wr.T
dh_prev = dxh[:, D:]  # HG209
for name in "h n z xrh rh r xh Wn Wz Wr h_prev".split():
    mine, true = globals()["d" + name], globals()[name].grad
    print(f"{name:7s}", torch.allclose(mine, true, atol=1e-5))
