# An LSTM over time, gates in one matrix, the last hidden state classified.
import torch
import torch.nn.functional as F

g = torch.Generator().manual_seed(3)
N, T, D, H, K = 8, 6, 5, 10, 4
X = torch.randn(N, T, D, generator=g)
labels = torch.randint(0, K, (N,), generator=g)

Wx = torch.randn(D, 4 * H, generator=g) / D**0.5
Wh = torch.randn(H, 4 * H, generator=g) / H**0.5
b = torch.zeros(4 * H)
Wy = torch.randn(H, K, generator=g) / H**0.5
for p in (Wx, Wh, b, Wy):
    p.requires_grad_()

h = torch.zeros(N, H)
c = torch.zeros(N, H)
for t in range(T):
    a = X[:, t] @ Wx + h @ Wh + b
    i, f, o, u = a.chunk(4, dim=1)
    i = torch.sigmoid(i)
    f = torch.sigmoid(f + 1.0)
    o = torch.sigmoid(o)
    u = torch.tanh(u)
    c = f * c + i * u
    h = o * torch.tanh(c)
logits = h @ Wy
loss = F.cross_entropy(logits, labels)
