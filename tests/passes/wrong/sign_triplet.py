# one matrix embeds anchor, positive and negative: three branches
import torch

torch.manual_seed(47)
A, P, N = torch.randn(10, 6), torch.randn(10, 6), torch.randn(10, 6)
W = torch.randn(6, 4, requires_grad=True)
margin = 1.0
ea, ep, en = A @ W, P @ W, N @ W
dist_p = (ea - ep).pow(2).sum(1)
dist_n = (ea - en).pow(2).sum(1)
viol = dist_p - dist_n + margin
loss = torch.relu(viol).mean()
for t in (ea, ep, en, viol):
    t.retain_grad()
loss.backward()

dviol = (viol > 0).to(W.dtype) / len(viol)
gp = 2 * (ea - ep) * dviol[:, None]
gn = 2 * (ea - en) * dviol[:, None]
dea = gp - gn
dep = -gp
den = -gn  # HG213
dW = A.T @ dea + P.T @ dep + N.T @ den
for mine, t in [(dviol, viol), (dea, ea), (dep, ep), (den, en), (dW, W)]:
    print(torch.allclose(mine, t.grad, atol=1e-5))
