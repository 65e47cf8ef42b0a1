"""A recurrent network with a loss at every step: a forward and nothing else. `handgrad derive` writes its backward."""

import torch
import torch.nn.functional as F

torch.manual_seed(1)
n, T, vocab_size, n_embd, n_hidden = 3, 5, 11, 4, 6
shapes = [(vocab_size, n_embd), (n_embd, n_hidden), (n_hidden, n_hidden), (n_hidden,), (n_hidden, vocab_size)]
parameters = C, Wx, Wh, b, Wy = [torch.randn(shape) * 0.4 for shape in shapes]
for p in parameters:
    p.requires_grad = True
X, Y = torch.randint(0, vocab_size, (n, T)), torch.randint(0, vocab_size, (n, T))

emb = C[X]
h = torch.zeros(n, n_hidden)
loss = 0.0
for t in range(T):
    h = torch.tanh(emb[:, t] @ Wx + h @ Wh + b)
    logits = h @ Wy
    loss = loss + F.cross_entropy(logits, Y[:, t]) / T
