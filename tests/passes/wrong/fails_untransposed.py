import torch

torch.manual_seed(12)
x = torch.randn(3, 4, 6)
Wg = torch.randn(6, 8, requires_grad=True)
Wu = torch.randn(6, 8, requires_grad=True)
Wd = torch.randn(8, 6, requires_grad=True)

gate = x @ Wg
up = x @ Wu
sig = torch.sigmoid(gate)
silu = gate * sig
hidden = silu * up
out = hidden @ Wd + x  # residual
loss = (out * out).mean()
loss.backward()

dout = 2 * out / out.numel()
dhidden = dout @ Wd  # HG226
dWd = torch.einsum("bth,btd->hd", hidden, dout)
dsilu = dhidden * up
dup = dhidden * silu
dsig = dsilu * gate
dgate = dsilu * sig + dsig * sig * (1 - sig)
dWg = torch.einsum("btd,bth->dh", x, dgate)
dWu = torch.einsum("btd,bth->dh", x, dup)
for mine, p in ((dWg, Wg), (dWu, Wu), (dWd, Wd)):
    assert mine.shape == p.shape
    assert torch.allclose(mine, p.grad, atol=1e-5), (mine - p.grad).abs().max()
