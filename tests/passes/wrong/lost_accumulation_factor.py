import torch

torch.manual_seed(39)
users, items, k, lam = 12, 9, 3, 0.1
U = torch.randn(users, k) * 0.5
V = torch.randn(items, k) * 0.5
bu, bi = torch.zeros(users), torch.zeros(items)
iu = torch.randint(0, users, (40,))
ii = torch.randint(0, items, (40,))
rating = torch.randint(1, 6, (40,)).to(U.dtype)

for sweep in range(4):
    eu, ei = U[iu], V[ii]  # (40, k)
    pred = (eu * ei).sum(1) + bu[iu] + bi[ii] + 3.0
    e = pred - rating
    loss = (e**2).mean() + lam * (U.pow(2).sum() + V.pow(2).sum())
    dpred = 2 * e / len(e)
    dU = torch.zeros_like(U).index_add_(0, iu, dpred[:, None] * ei) + 2 * lam * U
    dV = torch.zeros_like(V).index_add_(0, ii, dpred[:, None] * eu) + 2 * lam * V
    dbu = torch.zeros_like(bu)
    dbu[iu] += dpred  # HG210
    dbi = torch.zeros_like(bi).index_add_(0, ii, dpred)
    U -= 0.1 * dU
    V -= 0.1 * dV
    bu -= 0.1 * dbu
    bi -= 0.1 * dbi
    print(sweep, loss.item())
