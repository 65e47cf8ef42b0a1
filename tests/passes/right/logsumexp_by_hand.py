import torch

torch.manual_seed(51)
x = torch.randn(5, 9, requires_grad=True)
y = torch.randint(0, 9, (5,))
m = x.amax(1, keepdim=True)
shifted = x - m
ex = shifted.exp()
total = ex.sum(1, keepdim=True)
lse = total.log() + m
picked = x.gather(1, y[:, None])
loss = (lse - picked).mean()
for t in (m, shifted, ex, total, lse, picked):
    t.retain_grad()
loss.backward()

dlse = torch.ones_like(lse) / 5
dpicked = -torch.ones_like(picked) / 5
dtotal = dlse / total
dex = dtotal.expand_as(ex)
dshifted = dex * ex
dm = dlse - dshifted.sum(1, keepdim=True)
dx = dshifted + (x == m) * dm
dx = dx.scatter_add(1, y[:, None], dpicked)
for name in ("lse", "picked", "total", "ex", "shifted", "m", "x"):
    print(name, torch.allclose(eval(f"d{name}"), eval(f"{name}.grad"), atol=1e-7))
