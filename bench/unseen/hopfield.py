# Modern Hopfield network (Ramsauer et al. 2020): a state retrieved from learned patterns in a few updates.
import torch

torch.manual_seed(18)
n_patterns, dim, batch, beta = 6, 10, 4, 2.0
patterns = torch.randn(n_patterns, dim)
noisy = patterns[:batch] + 0.5 * torch.randn(batch, dim)
clean = patterns[:batch]
memory = torch.randn(n_patterns, dim, requires_grad=True)

state = noisy
for _ in range(3):
    sim = beta * state @ memory.T
    state = torch.softmax(sim, dim=1) @ memory
energy = -torch.logsumexp(beta * state @ memory.T, dim=1) / beta + 0.5 * (state**2).sum(1)
loss = (state - clean).pow(2).mean() + 0.1 * energy.mean()
