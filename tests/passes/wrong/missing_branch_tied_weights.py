# the embedding is the output matrix too: two branches, one of them with repeated rows
import torch
import torch.nn.functional as F

torch.manual_seed(29)
V, E, n = 15, 8, 20
wte = (torch.randn(V, E) * 0.5).requires_grad_()
W = (torch.randn(E, E) * 0.5).requires_grad_()
ids, targets = torch.randint(0, V, (n,)), torch.randint(0, V, (n,))

tok = wte[ids]  # (n, E)
h = torch.tanh(tok @ W)
logits = h @ wte.T  # (n, V)
loss = F.cross_entropy(logits, targets)
for t in (tok, h, logits):
    t.retain_grad()
loss.backward()

dlogits = F.softmax(logits, -1)
dlogits[range(n), targets] -= 1
dlogits /= n
dh = dlogits @ wte
dwte = dlogits.T @ h  # HG207
dpre = dh * (1 - h**2)
dW = tok.T @ dpre
dtok = dpre @ W.T
for name, mine, t in (("logits", dlogits, logits), ("h", dh, h), ("W", dW, W), ("tok", dtok, tok), ("wte", dwte, wte)):
    print(name, torch.allclose(mine, t.grad, atol=1e-6))
