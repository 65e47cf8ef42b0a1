# multi-class SVM
import torch

torch.manual_seed(31)
N, D, K, reg, delta = 20, 6, 4, 0.01, 1.0
X, y = torch.randn(N, D), torch.randint(0, K, (N,))
W = torch.randn(D, K) * 0.5


def svm_loss(W):
    scores = X @ W  # (N, K)
    correct = scores[torch.arange(N), y].view(-1, 1)
    margins = torch.clamp(scores - correct + delta, min=0)
    margins[torch.arange(N), y] = 0
    loss = margins.sum() / N + reg * (W * W).sum()

    dmargins = torch.ones_like(scores) / N
    dscores = dmargins * (margins > 0)
    dscores[torch.arange(N), y] -= dscores.sum(1)
    dW = X.T @ dscores + 2 * reg * W
    return loss, dW


for _ in range(5):
    loss, dW = svm_loss(W)
    W = W - 0.1 * dW
    print(loss.item())
