# distillation: KL(teacher || student) at a temperature
import torch

torch.manual_seed(34)
B, V, tau = 12, 9, 2.0
feats = torch.randn(B, 6)
teacher = torch.softmax(torch.randn(B, V) / tau, 1)
W = torch.randn(6, V, requires_grad=True)

logits = feats @ W
scaled = logits / tau
logq = scaled - scaled.logsumexp(1, keepdim=True)
kl = (teacher * (teacher.log() - logq)).sum(1)  # (B,)
loss = tau**2 * kl.mean()
for u in (logits, scaled, logq, kl):
    u.retain_grad()
loss.backward()

dkl = torch.full((B,), tau**2 / B, dtype=W.dtype)
dlogq = -teacher * dkl[:, None]
dscaled = dlogq - logq.exp() * dlogq.sum(1, keepdim=True)
dlogits = dscaled * tau  # HG214|HG219
dW = feats.T @ dlogits
for name, mine, u in zip(["kl", "logq", "scaled", "logits", "W"], [dkl, dlogq, dscaled, dlogits, dW], [kl, logq, scaled, logits, W]):
    print(name, mine.shape == u.grad.shape, torch.allclose(mine, u.grad, atol=1e-6))
