# Marginal likelihood of a Gaussian process with an RBF kernel, by Cholesky.
import math

import torch

torch.manual_seed(10)
n = 15
X = torch.linspace(-3, 3, n).unsqueeze(1)
y = torch.sin(X).squeeze(1) + 0.1 * torch.randn(n)
log_len = torch.tensor(0.0, requires_grad=True)
log_amp = torch.tensor(0.2, requires_grad=True)
log_noise = torch.tensor(-1.5, requires_grad=True)

sq = (X - X.T) ** 2
K = torch.exp(2 * log_amp) * torch.exp(-0.5 * sq / torch.exp(2 * log_len))
Ky = K + torch.exp(2 * log_noise) * torch.eye(n)
L = torch.linalg.cholesky(Ky)
alpha = torch.cholesky_solve(y.unsqueeze(1), L)
fit = 0.5 * y @ alpha.squeeze(1)
complexity = torch.log(torch.diagonal(L)).sum()
loss = fit + complexity + 0.5 * n * math.log(2 * math.pi)
