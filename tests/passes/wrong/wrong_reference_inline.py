import torch

torch.manual_seed(4)
q = torch.randn(6, 6, requires_grad=True)
k = torch.randn(6, 6, requires_grad=True)
s = q @ k.T  # (6, 6)
loss = s.square().mean()
s.retain_grad()
loss.backward()

ds = 2 * s / s.numel()
dq = ds @ k
dk = ds.T @ q
print(torch.allclose(ds, s.grad))
print(torch.allclose(dq, k.grad))  # HG225
print(torch.allclose(dk, k.grad))
