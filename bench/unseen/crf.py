# Linear-chain conditional random field: score of the gold tags minus the log partition function.
import torch

torch.manual_seed(14)
T, K, D = 9, 4, 6
words = torch.randn(T, D)
tags = torch.randint(K, (T,))
W = (torch.randn(D, K) * 0.5).requires_grad_()
trans = (torch.randn(K, K) * 0.5).requires_grad_()
start = torch.zeros(K, requires_grad=True)

emit = words @ W
gold = start[tags[0]] + emit[torch.arange(T), tags].sum() + trans[tags[:-1], tags[1:]].sum()
alpha = start + emit[0]
for t in range(1, T):
    alpha = torch.logsumexp(alpha[:, None] + trans, dim=0) + emit[t]
log_z = torch.logsumexp(alpha, dim=0)
loss = log_z - gold
