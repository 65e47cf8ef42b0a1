# 100,000 steps, the pass in a function
import torch
import torch.nn.functional as F

torch.manual_seed(60)
X, Y = torch.randn(200, 4), torch.randint(0, 3, (200,))
W1, b1 = torch.randn(4, 10) * 0.5, torch.zeros(10)
W2, b2 = torch.randn(10, 3) * 0.3, torch.zeros(3)


def train_step(xb, yb, lr):
    h = torch.tanh(xb @ W1 + b1)
    logits = h @ W2 + b2
    loss = F.cross_entropy(logits, yb)
    dlogits = F.softmax(logits, 1)
    dlogits[range(len(yb)), yb] -= 1
    dlogits /= len(yb)
    dW2, db2 = h.T @ dlogits, dlogits.sum(0)
    dh = dlogits @ W2.T
    dpre = dh * (1 - h * h)
    dW1, db1 = xb.T @ dpre, dpre.sum(0)
    for p, d in ((W1, dW1), (b1, db1), (W2, dW2), (b2, db2)):
        p.sub_(lr * d)
    return loss.item()


for i in range(100000):
    batch = torch.randint(0, 200, (16,))
    value = train_step(X[batch], Y[batch], 0.1)
    if i % 10000 == 0:
        print(i, value)
