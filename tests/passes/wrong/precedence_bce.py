import torch
import torch.nn.functional as F

torch.manual_seed(32)
n = 33
x = torch.randn(n, 5)
y = torch.randint(0, 2, (n, 3)).to(x.dtype)
pos_weight = torch.tensor([1.0, 2.0, 0.5]).to(x.dtype)
W = torch.randn(5, 3, requires_grad=True)
b = torch.zeros(3, requires_grad=True)
logits = x @ W + b  # (n, 3)
loss = F.binary_cross_entropy_with_logits(logits, y, pos_weight=pos_weight)
logits.retain_grad()
loss.backward()

s = torch.sigmoid(logits)
dlogits = (1 - y) * s - pos_weight * y * 1 - s  # HG221
dlogits = dlogits / logits.numel()
dW = x.T @ dlogits
db = dlogits.sum(0)
for k, (mine, t) in {"logits": (dlogits, logits), "W": (dW, W), "b": (db, b)}.items():
    print(k, torch.allclose(mine, t.grad, atol=1e-6))
