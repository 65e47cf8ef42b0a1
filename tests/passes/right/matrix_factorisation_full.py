import torch

torch.manual_seed(40)
R = torch.randn(7, 5)
known = torch.rand(7, 5) < 0.6
P = torch.randn(7, 2, requires_grad=True)
Q = torch.randn(5, 2, requires_grad=True)
R_hat = P @ Q.T
E = (R_hat - R) * known
loss = E.pow(2).sum() / known.sum()
loss.backward()

dE = 2 * E / known.sum()
dR_hat = dE * known
dP = dR_hat @ Q
dQ = dR_hat.T @ P
assert torch.allclose(dP, P.grad, atol=1e-6) and torch.allclose(dQ, Q.grad, atol=1e-6)
