import torch

torch.manual_seed(23)
N, C, L, O, K = 3, 2, 10, 4, 3
x = torch.randn(N, C, L, requires_grad=True)
w = torch.randn(O, C, K, requires_grad=True)
b = torch.randn(O, requires_grad=True)

cols = x.unfold(2, K, 1)  # (N, C, L - K + 1, K)
out = torch.einsum("nclk,ock->nol", cols, w) + b[:, None]
loss = (out**2).mean()
cols.retain_grad()
out.retain_grad()
loss.backward()

dout = 2 * out / out.numel()
dw = torch.einsum("nol,nclk->ock", dout, cols)
db = dout.sum((0, 2), keepdim=True)  # HG202
dcols = torch.einsum("nol,ock->nclk", dout, w)
dx = torch.zeros_like(x)
for k in range(K):
    dx[:, :, k : k + L - K + 1] += dcols[:, :, :, k]  # overlapping windows add up
for name, mine, t in (("out", dout, out), ("w", dw, w), ("b", db, b), ("cols", dcols, cols), ("x", dx, x)):
    print(name, torch.allclose(mine, t.grad, atol=1e-6))
