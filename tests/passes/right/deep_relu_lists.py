# weights, activations and gradients in lists
import torch

torch.manual_seed(7)
sizes = [6, 10, 8, 4]
Ws = [torch.randn(i, o) * (2 / i) ** 0.5 for i, o in zip(sizes, sizes[1:])]
bs = [torch.randn(o) * 0.1 for o in sizes[1:]]
for p in Ws + bs:
    p.requires_grad_()
x = torch.randn(15, 6)
target = torch.randn(15, 4)

acts = [x]
zs = []
for i in range(len(Ws)):
    z = acts[-1] @ Ws[i] + bs[i]
    zs.append(z)
    acts.append(z.relu() if i < len(Ws) - 1 else z)
loss = ((acts[-1] - target) ** 2).mean()
loss.backward()

dWs = [None] * len(Ws)
dbs = [None] * len(bs)
delta = 2 * (acts[-1] - target) / target.numel()
for i in reversed(range(len(Ws))):
    if i < len(Ws) - 1:
        delta = delta * (zs[i] > 0).to(delta.dtype)
    dWs[i] = acts[i].T @ delta
    dbs[i] = delta.sum(0)
    delta = delta @ Ws[i].T
for i in range(len(Ws)):
    print(i, torch.allclose(dWs[i], Ws[i].grad, atol=1e-6), torch.allclose(dbs[i], bs[i].grad, atol=1e-6))
