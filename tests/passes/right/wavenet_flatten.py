# three dimensions: pairs of characters are fused, batch norm over (0, 1)
import torch
import torch.nn.functional as F

torch.manual_seed(58)
V, T, E, H, n = 27, 4, 5, 12, 16
C = torch.randn(V, E, requires_grad=True)
W1 = (torch.randn(2 * E, H) * 0.3).requires_grad_()
gain = torch.ones(H, requires_grad=True)
W2 = (torch.randn(T // 2 * H, V) * 0.2).requires_grad_()
X, Y = torch.randint(0, V, (n, T)), torch.randint(0, V, (n,))

emb = C[X]  # (n, T, E)
pairs = emb.view(n, T // 2, 2 * E)
u = pairs @ W1  # (n, 2, H)
mu = u.mean((0, 1), keepdim=True)
inv = (u.var((0, 1), unbiased=False, keepdim=True) + 1e-5) ** -0.5
uhat = (u - mu) * inv
h = torch.tanh(gain * uhat)
flat = h.view(n, -1)
logits = flat @ W2
loss = F.cross_entropy(logits, Y)
for t in (emb, pairs, u, uhat, h, flat, logits):
    t.retain_grad()
loss.backward()

dlogits = (logits.softmax(1) - F.one_hot(Y, V)) / n
dW2 = flat.T @ dlogits
dflat = dlogits @ W2.T
dh = dflat.view(h.shape)
da = dh * (1 - h**2)
dgain = (da * uhat).sum((0, 1))
duhat = da * gain
du = inv * (duhat - duhat.mean((0, 1)) - uhat * (duhat * uhat).mean((0, 1)))
dW1 = torch.einsum("npe,nph->eh", pairs, du)
dpairs = du @ W1.T
demb = dpairs.view(emb.shape)
dC = torch.zeros_like(C)
dC.index_put_((X,), demb, accumulate=True)
for name in "logits W2 flat h gain uhat u W1 pairs emb C".split():
    print(name, torch.allclose(globals()["d" + name], globals()[name].grad, atol=1e-6))
