import torch

torch.manual_seed(56)
n, K, eps = 33, 6, 0.1
feats = torch.randn(n, 8)
W = torch.randn(8, K, requires_grad=True)
y = torch.randint(0, K, (n,))
soft = torch.full((n, K), eps / K)
soft[torch.arange(n), y] += 1 - eps
z = feats @ W
logp = torch.log_softmax(z, -1)
loss = -(soft * logp).sum(-1).mean()
z.retain_grad()
loss.backward()
dz = (logp.exp() - soft) / n
dW = feats.mT @ dz
print(torch.allclose(z.grad, dz, atol=1e-6) and torch.allclose(W.grad, dW, atol=1e-6))
