# one head of causal self-attention
import torch

torch.manual_seed(17)
T, D, Dh = 6, 8, 5
x = torch.randn(T, D)
Wq = (torch.randn(D, Dh) * 0.4).requires_grad_()
Wk = (torch.randn(D, Dh) * 0.4).requires_grad_()
Wv = (torch.randn(D, Dh) * 0.4).requires_grad_()
target = torch.randn(T, Dh)
mask = torch.tril(torch.ones(T, T)) == 0

q, k, v = x @ Wq, x @ Wk, x @ Wv  # (T, Dh)
scores = q @ k.T / Dh**0.5  # (T, T)
masked = scores.masked_fill(mask, float("-inf"))
att = torch.softmax(masked, dim=-1)
out = att @ v
loss = ((out - target) ** 2).mean()
for t in (q, k, v, scores, att, out):
    t.retain_grad()
loss.backward()

dout = 2 * (out - target) / out.numel()
datt = dout @ v.T
dv = att.T @ dout
dscores = att * (datt - (datt * att).sum(-1, keepdim=True))  # zero where masked
dq = dscores @ k / Dh**0.5
dk = dscores @ q / Dh**0.5  # HG215
dWq = x.T @ dq
dWk = x.T @ dk
dWv = x.T @ dv


def report(name, mine, t):
    print(f"{name:>8} {(mine - t.grad).abs().max().item():.2e}", "ok" if torch.allclose(mine, t.grad, atol=1e-6) else "WRONG")


report("out", dout, out)
report("att", datt, att)
report("v", dv, v)
report("scores", dscores, scores)
report("q", dq, q)
report("k", dk, k)
report("Wq", dWq, Wq)
report("Wk", dWk, Wk)
report("Wv", dWv, Wv)
