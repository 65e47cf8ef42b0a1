# Kalman filter over a sequence; the negative log-likelihood of the innovations trains the dynamics.
import torch

torch.manual_seed(15)
T = 8
obs = torch.cumsum(torch.randn(T, 1), dim=0)
A = torch.tensor([[1.0, 1.0], [0.0, 0.9]], requires_grad=True)
C = torch.tensor([[1.0, 0.0]])
log_q = torch.tensor([-1.0, -2.0], requires_grad=True)
log_r = torch.tensor(-0.5, requires_grad=True)

Q = torch.diag(log_q.exp())
R = log_r.exp().reshape(1, 1)
m = torch.zeros(2, 1)
P = torch.eye(2)
nll = 0.0
for t in range(T):
    m = A @ m
    P = A @ P @ A.T + Q
    r = obs[t].reshape(1, 1) - C @ m
    S = C @ P @ C.T + R
    G = P @ C.T / S
    m = m + G @ r
    P = P - G @ C @ P
    nll = nll + 0.5 * (torch.log(S) + r**2 / S).sum()
loss = nll / T
