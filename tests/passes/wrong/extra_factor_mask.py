import torch
import torch.nn.functional as F

torch.manual_seed(13)
n, keep = 27, 0.8
x = torch.randn(n, 10)
y = torch.randint(0, 4, (n,))
W1 = torch.randn(10, 16).mul(0.3).requires_grad_()
W2 = torch.randn(16, 4).mul(0.3).requires_grad_()
mask = (torch.rand(n, 16) < keep).float() / keep  # inverted dropout

h = torch.tanh(x @ W1)
hd = h * mask
logits = hd @ W2
loss = F.cross_entropy(logits, y)
for t in (h, hd, logits):
    t.retain_grad()
loss.backward()

dlogits = F.softmax(logits, 1)
dlogits[torch.arange(n), y] -= 1
dlogits /= n
dW2 = hd.T @ dlogits
dhd = dlogits @ W2.T
dh = dhd * mask * mask  # HG217
dW1 = x.T @ (dh * (1 - h**2))
print("W2", torch.allclose(dW2, W2.grad, atol=1e-7))
print("hd", torch.allclose(dhd, hd.grad, atol=1e-7))
print("h ", torch.allclose(dh, h.grad, atol=1e-7))
print("W1", torch.allclose(dW1, W1.grad, atol=1e-7))
