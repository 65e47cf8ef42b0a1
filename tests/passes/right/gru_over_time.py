import torch
import torch.nn.functional as F

torch.manual_seed(5)
n, T, V, E, H = 5, 3, 7, 4, 6
X, Y = torch.randint(0, V, (n, T)), torch.randint(0, V, (n,))
C = torch.randn(V, E)
Wxz, Wxr, Wxc = (torch.randn(E, H) * 0.4 for _ in range(3))
Whz, Whr, Whc = (torch.randn(H, H) * 0.4 for _ in range(3))
bz, br, bc = (torch.randn(H) * 0.1 for _ in range(3))
Wy = torch.randn(H, V) * 0.4
params = [C, Wxz, Wxr, Wxc, Whz, Whr, Whc, bz, br, bc, Wy]
for p in params:
    p.requires_grad = True

emb = C[X]
h = torch.zeros(n, H)
cache = []
for t in range(T):
    x, hprev = emb[:, t], h
    zpre = x @ Wxz + hprev @ Whz + bz
    z = torch.sigmoid(zpre)
    rpre = x @ Wxr + hprev @ Whr + br
    r = torch.sigmoid(rpre)
    rh = r * hprev
    cpre = x @ Wxc + rh @ Whc + bc
    c = torch.tanh(cpre)
    h = (1.0 - z) * hprev + z * c
    cache.append((x, hprev, z, r, rh, c))
logits = h @ Wy
loss = F.cross_entropy(logits, Y)
loss.backward()

with torch.no_grad():
    dlogits = F.softmax(logits, 1)
    dlogits[range(n), Y] -= 1
    dlogits /= n
    dh = dlogits @ Wy.T
    dWy = h.T @ dlogits
    demb = torch.zeros_like(emb)
    dWxz, dWxr, dWxc = (torch.zeros_like(p) for p in (Wxz, Wxr, Wxc))
    dWhz, dWhr, dWhc = (torch.zeros_like(p) for p in (Whz, Whr, Whc))
    dbz, dbr, dbc = (torch.zeros_like(p) for p in (bz, br, bc))
    for t in reversed(range(T)):
        x, hprev, z, r, rh, c = cache[t]
        dz = (c - hprev) * dh
        dc = z * dh
        dhprev = (1.0 - z) * dh
        dcpre = (1.0 - c**2) * dc
        dWxc += x.T @ dcpre
        dWhc += rh.T @ dcpre
        dbc += dcpre.sum(0)
        drh = dcpre @ Whc.T
        dr = hprev * drh
        dhprev += r * drh
        drpre = r * (1.0 - r) * dr
        dWxr += x.T @ drpre
        dWhr += hprev.T @ drpre
        dbr += drpre.sum(0)
        dhprev += drpre @ Whr.T
        dzpre = z * (1.0 - z) * dz
        dWxz += x.T @ dzpre
        dWhz += hprev.T @ dzpre
        dbz += dzpre.sum(0)
        dhprev += dzpre @ Whz.T
        demb[:, t] = dcpre @ Wxc.T + drpre @ Wxr.T + dzpre @ Wxz.T
        dh = dhprev
    dC = torch.zeros_like(C).index_add_(0, X.flatten(), demb.flatten(0, 1))

for p, d in zip(params, [dC, dWxz, dWxr, dWxc, dWhz, dWhr, dWhc, dbz, dbr, dbc, dWy]):
    print(torch.allclose(d, p.grad, atol=1e-6))
