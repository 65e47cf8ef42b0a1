import torch

torch.manual_seed(38)
a = torch.randn(8, 5, requires_grad=True)
b = torch.randn(8, 5, requires_grad=True)
dot = (a * b).sum(1)
na = a.pow(2).sum(1).sqrt()
nb = b.pow(2).sum(1).sqrt()
cos = dot / (na * nb)
loss = (1 - cos).mean()
for t in (dot, na, nb, cos):
    t.retain_grad()
loss.backward()

dcos = torch.full_like(cos, -1 / len(cos))
ddot = (dcos / (na * nb)).sum(0, keepdim=True)  # HG206
dna = -dcos * dot / (na**2 * nb)
dnb = -dcos * dot / (na * nb**2)
da = ddot[:, None] * b + (dna / na)[:, None] * a
db = ddot[:, None] * a + (dnb / nb)[:, None] * b
for s, mine, t in [("cos", dcos, cos), ("dot", ddot, dot), ("na", dna, na), ("nb", dnb, nb), ("a", da, a), ("b", db, b)]:
    print(s, torch.allclose(mine, t.grad, atol=1e-7))
