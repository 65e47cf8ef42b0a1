import torch

torch.manual_seed(27)
V, E, B, T = 30, 6, 5, 4
table = torch.randn(V, E)
proj = torch.randn(E, 1)
ids = torch.randint(0, V, (B, T))
ids[0] = 7  # the same word four times
labels = torch.tensor([1.0, 0, 1, 0, 1]).to(table.dtype)[:, None]

for step in range(3):
    vectors = table[ids]  # (B, T, E)
    bag = vectors.mean(1)  # (B, E)
    logit = bag @ proj
    p = torch.sigmoid(logit)
    loss = -(labels * p.log() + (1 - labels) * (1 - p).log()).mean()

    dlogit = (p - labels) / B
    dproj = bag.T @ dlogit
    dbag = dlogit @ proj.T
    dvectors = dbag[:, None, :].repeat(1, T, 1) / T
    dtable = torch.zeros_like(table)
    dtable[ids] += dvectors  # HG210
    table -= 0.5 * dtable
    proj -= 0.5 * dproj
    print(step, loss.item())
