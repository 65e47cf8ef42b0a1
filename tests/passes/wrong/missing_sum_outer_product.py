# (5, 1) times (1, 7), plus a scalar and a vector
import torch

torch.manual_seed(55)
col = torch.randn(5, 1, requires_grad=True)
row = torch.randn(1, 7, requires_grad=True)
vec = torch.randn(7, requires_grad=True)
num = torch.randn((), requires_grad=True)
cube = torch.randn(2, 5, 7, requires_grad=True)
outer = col * row  # (5, 7)
mixed = outer / (1 + vec**2) + num
full = cube * mixed  # (2, 5, 7)
loss = full.sin().mean()
for t in (outer, mixed, full):
    t.retain_grad()
loss.backward()

dfull = full.cos() / full.numel()
dcube = dfull * mixed
dmixed = (dfull * cube).sum(0)
dnum = dmixed.sum()
douter = dmixed / (1 + vec**2)
dvec = (dmixed * outer * -2 * vec / (1 + vec**2) ** 2).sum(0)
dcol = douter * row  # HG201
drow = (douter * col).sum(0, keepdim=True)
for name in "full cube mixed num outer vec col row".split():
    mine, true = globals()["d" + name], globals()[name].grad
    print(name, mine.shape == true.shape, torch.allclose(mine, true, atol=1e-7))
