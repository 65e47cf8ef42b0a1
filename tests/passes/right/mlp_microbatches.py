# gradient accumulation: four microbatches of 8, one update
import torch
import torch.nn.functional as F

torch.manual_seed(1337)
vocab_size, block_size, n_embd, n_hidden, n, m = 27, 3, 6, 20, 32, 8
C = torch.randn(vocab_size, n_embd, requires_grad=True)
W1 = (torch.randn(n_embd * block_size, n_hidden) * 0.2).requires_grad_()
b1 = (torch.randn(n_hidden) * 0.1).requires_grad_()
W2 = (torch.randn(n_hidden, vocab_size) * 0.2).requires_grad_()
b2 = (torch.randn(vocab_size) * 0.1).requires_grad_()
X = torch.randint(0, vocab_size, (n, block_size))
Y = torch.randint(0, vocab_size, (n,))

dC, dW1, db1 = torch.zeros_like(C), torch.zeros_like(W1), torch.zeros_like(b1)
dW2, db2 = torch.zeros_like(W2), torch.zeros_like(b2)
for start in range(0, n, m):
    Xb, Yb = X[start : start + m], Y[start : start + m]
    emb = C[Xb]
    embcat = emb.view(m, -1)
    hpreact = embcat @ W1 + b1
    h = torch.tanh(hpreact)
    logits = h @ W2 + b2
    loss = F.cross_entropy(logits, Yb) * m / n
    loss.backward()
    dlogits = F.softmax(logits, 1)
    dlogits[range(m), Yb] -= 1
    dlogits = dlogits / n
    dW2 += h.T @ dlogits
    db2 += dlogits.sum(0)
    dh = dlogits @ W2.T
    dhpreact = (1 - h * h) * dh
    dW1 += embcat.T @ dhpreact
    db1 += dhpreact.sum(0)
    demb = (dhpreact @ W1.T).view(emb.shape)
    dC.index_add_(0, Xb.flatten(), demb.flatten(0, 1))

for name, d, p in [("C", dC, C), ("W1", dW1, W1), ("b1", db1, b1), ("W2", dW2, W2), ("b2", db2, b2)]:
    print(name, torch.allclose(d, p.grad, atol=1e-6))
