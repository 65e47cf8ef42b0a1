import torch

torch.manual_seed(45)
n = 27
x = torch.randn(n, 3)
y = torch.randn(n)
wm = torch.randn(3, requires_grad=True)
ws = (0.3 * torch.randn(3)).requires_grad_()
mean = x @ wm
log_sigma = x @ ws
inv_var = torch.exp(-2 * log_sigma)
sq = (y - mean) ** 2
nll = 0.5 * sq * inv_var + log_sigma + 0.5 * torch.log(torch.tensor(2 * torch.pi))
loss = nll.mean()
for t in (mean, log_sigma, inv_var, sq):
    t.retain_grad()
loss.backward()

dsq = 0.5 * inv_var / n
dinv_var = 0.5 * sq / n
dlog_sigma = 1 / n + dinv_var * 2 * inv_var  # HG213
dmean = -2 * (y - mean) * dsq
dwm = x.T @ dmean
dws = x.T @ dlog_sigma
for name, a, b in (("sq", dsq, sq), ("inv_var", dinv_var, inv_var), ("mean", dmean, mean), ("wm", dwm, wm), ("ws", dws, ws)):
    print(name, torch.allclose(a, b.grad, atol=1e-6))
print("log_sigma", torch.allclose(dlog_sigma, log_sigma.grad, atol=1e-6))
