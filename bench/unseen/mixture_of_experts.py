# Mixture of experts with soft gating and a load-balancing penalty.
import torch

torch.manual_seed(5)
n, d, hidden, E = 20, 6, 9, 3
x = torch.randn(n, d)
y = torch.randn(n, 1)
W_gate = (torch.randn(d, E) * 0.3).requires_grad_()
W1 = (torch.randn(E, d, hidden) * 0.3).requires_grad_()
W2 = (torch.randn(E, hidden, 1) * 0.3).requires_grad_()

gates = torch.softmax(x @ W_gate, dim=-1)
hid = torch.relu(torch.einsum("nd,edh->neh", x, W1))
experts = torch.einsum("neh,eho->neo", hid, W2)
pred = (gates.unsqueeze(-1) * experts).sum(dim=1)
load = gates.mean(0)
balance = E * (load**2).sum()
loss = ((pred - y) ** 2).mean() + 0.01 * balance
