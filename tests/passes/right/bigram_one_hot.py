# one matrix of 27 x 27 log-counts
import torch
import torch.nn.functional as F

words = ["emma", "olivia", "ava", "isabella", "sophia"]
chars = ["."] + sorted(set("".join(words)))
xs, ys = [], []
for w in words:
    for c1, c2 in zip("." + w, w + "."):
        xs.append(chars.index(c1))
        ys.append(chars.index(c2))
xs, ys = torch.tensor(xs), torch.tensor(ys)
num, V = len(xs), len(chars)
W = torch.randn((V, V), generator=torch.Generator().manual_seed(2147483647))

for k in range(10):
    xenc = F.one_hot(xs, num_classes=V).to(W.dtype)
    logits = xenc @ W
    counts = logits.exp()
    probs = counts / counts.sum(1, keepdim=True)
    loss = -probs[torch.arange(num), ys].log().mean() + 0.01 * (W**2).mean()
    dlogits = probs.clone()
    dlogits[torch.arange(num), ys] -= 1
    dlogits *= 1 / num
    dW = xenc.T @ dlogits + 0.01 * 2 * W / W.numel()
    W += -10 * dW
    print(loss.item())
