# hazards to survival by a cumulative sum: the gradient runs backwards
import torch

torch.manual_seed(52)
h = torch.rand(6, 10, requires_grad=True)
w = torch.randn(6, 10)
H = torch.cumsum(h, dim=1)
S = torch.exp(-H)
loss = (w * S).sum()
H.retain_grad()
S.retain_grad()
loss.backward()

dS = w
dH = S * dS  # HG213
dh = dH.flip(1).cumsum(1).flip(1)
print(torch.allclose(dS, S.grad), torch.allclose(dH, H.grad), torch.allclose(dh, h.grad, atol=1e-6))
