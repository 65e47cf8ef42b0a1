# %% first look at the network
import torch
import torch.nn.functional as F

torch.manual_seed(5)
N, D, K = 20, 8, 5
W = torch.randn(D, K, requires_grad=True)
b = torch.zeros(K, requires_grad=True)
x = torch.randn(N, D)
y = torch.randint(0, K, (N,))
scores = x @ W + b
probs = scores.softmax(1)
print("accuracy", (probs.argmax(1) == y).double().mean().item())

# %% another minibatch, loss by the library
x = torch.randn(N, D)
y = torch.randint(0, K, (N,))
scores = x @ W + b
loss = F.cross_entropy(scores, y)
scores.retain_grad()
loss.backward()

# %% backward
dscores = probs.clone()  # HG223
dscores[range(N), y] -= 1
dscores /= N
dW = x.T @ dscores
db = dscores.sum(0)
for mine, t in ((dscores, scores), (dW, W), (db, b)):
    print(torch.allclose(mine, t.grad, atol=1e-6))
