# Negative log-likelihood of a Gaussian mixture with diagonal covariances.
import math

import torch

torch.manual_seed(9)
N, D, K = 50, 2, 3
data = torch.randn(N, D) + torch.randint(0, 2, (N, 1)) * 3
pi_logits = torch.zeros(K, requires_grad=True)
mu = torch.randn(K, D, requires_grad=True)
log_sigma = torch.zeros(K, D, requires_grad=True)

log_pi = torch.log_softmax(pi_logits, dim=0)
diff = (data.unsqueeze(1) - mu) / log_sigma.exp()
log_prob = -0.5 * (diff**2).sum(-1) - log_sigma.sum(-1) - 0.5 * D * math.log(2 * math.pi)
log_joint = log_pi + log_prob
loss = -torch.logsumexp(log_joint, dim=1).mean()
