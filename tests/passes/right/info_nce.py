# contrastive loss both ways round over normalised features
import torch
import torch.nn.functional as F

torch.manual_seed(48)
B, D, E, temp = 7, 6, 5, 0.5
X1, X2 = torch.randn(B, D), torch.randn(B, D)
Wa = torch.randn(D, E, requires_grad=True)
Wb = torch.randn(D, E, requires_grad=True)
u, v = X1 @ Wa, X2 @ Wb
lu, lv = u.norm(dim=1, keepdim=True), v.norm(dim=1, keepdim=True)
un, vn = u / lu, v / lv
sim = un @ vn.T / temp  # (B, B)
labels = torch.arange(B)
loss = 0.5 * (F.cross_entropy(sim, labels) + F.cross_entropy(sim.T, labels))
for t in (u, v, un, vn, sim):
    t.retain_grad()
loss.backward()

I = torch.eye(B)
dsim = 0.5 * (sim.softmax(1) - I) / B
dsim = dsim + 0.5 * (sim.softmax(0) - I) / B
dun = dsim @ vn / temp
dvn = dsim.T @ un / temp
du = (dun - un * (un * dun).sum(1, keepdim=True)) / lu
dv = (dvn - vn * (vn * dvn).sum(1, keepdim=True)) / lv
dWa, dWb = X1.T @ du, X2.T @ dv
for mine, t in [(dsim, sim), (dun, un), (dvn, vn), (du, u), (dv, v), (dWa, Wa), (dWb, Wb)]:
    print((mine - t.grad).abs().max().item() < 1e-6)
