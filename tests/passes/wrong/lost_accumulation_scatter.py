import torch

torch.manual_seed(53)
emb = torch.randn(11, 4, requires_grad=True)
src = torch.randint(0, 11, (20,))
dst = torch.randint(0, 11, (20,))
es, ed = emb[src], emb.index_select(0, dst)
score = (es * ed).sum(-1)
table = score.view(4, 5)
best = table.gather(1, torch.tensor([[0, 2], [1, 1], [4, 3], [2, 0]]))  # (4, 2), one pick twice
loss = torch.tanh(best).sum()
for t in (es, ed, score, table, best):
    t.retain_grad()
loss.backward()

dbest = 1 - torch.tanh(best) ** 2
dtable = torch.zeros_like(table)
dtable.scatter_(1, torch.tensor([[0, 2], [1, 1], [4, 3], [2, 0]]), dbest)  # HG210
dscore = dtable.view(-1)
des = dscore.unsqueeze(1) * ed
ded = dscore.unsqueeze(1) * es
demb = torch.zeros_like(emb)
demb.index_add_(0, src, des)
demb.index_add_(0, dst, ded)
for n, t in [("best", best), ("table", table), ("score", score), ("es", es), ("ed", ed), ("emb", emb)]:
    print(n, torch.allclose(globals()["d" + n], t.grad, atol=1e-6))
