import torch

torch.manual_seed(50)
q = torch.randn(6, 4, requires_grad=True)
keys = torch.randn(9, 4, requires_grad=True)
scale = torch.tensor(2.0, requires_grad=True)
qn = q / q.square().sum(-1, keepdim=True).sqrt()
kn = keys / keys.square().sum(-1, keepdim=True).sqrt()
s = scale * (qn @ kn.T)
loss = s.exp().sum(1).log().mean()
loss.backward()

ds = s.softmax(1) / 6
dscale = (ds * (qn @ kn.T)).sum()
dqn = scale * ds @ kn
dkn = scale * ds.T @ qn


def through_norm(d, x):
    length = x.norm(dim=-1, keepdim=True)
    return d / length - x * (d * x).sum(-1, keepdim=True) / length**3


dq = through_norm(dqn, q)
dkeys = through_norm(dkn, keys)
print(torch.allclose(dq, q.grad, atol=1e-6), torch.allclose(dkeys, keys.grad, atol=1e-6), torch.allclose(dscale, scale.grad))
