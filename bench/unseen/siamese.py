# Siamese network: one tower applied to two inputs, cosine embedding loss by hand.
import torch
import torch.nn as nn

torch.manual_seed(11)


class Tower(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(10, 16)
        self.fc2 = nn.Linear(16, 6)

    def forward(self, x):
        return self.fc2(torch.tanh(self.fc1(x)))


tower = Tower()
x1, x2 = torch.randn(14, 10), torch.randn(14, 10)
same = torch.randint(0, 2, (14,)).float()

e1, e2 = tower(x1), tower(x2)
cos = (e1 * e2).sum(1) / (e1.norm(dim=1) * e2.norm(dim=1) + 1e-8)
loss_same = same * (1 - cos)
loss_diff = (1 - same) * torch.relu(cos - 0.2)
loss = (loss_same + loss_diff).mean()
