# Variational autoencoder (Kingma & Welling 2014): Gaussian posterior, reparameterisation, Bernoulli decoder.
import torch
import torch.nn.functional as F

torch.manual_seed(1)
batch, n_in, n_hid, n_z = 16, 40, 24, 6
x = (torch.rand(batch, n_in) > 0.6).float()

W_enc = (torch.randn(n_in, n_hid) * 0.1).requires_grad_()
b_enc = torch.zeros(n_hid, requires_grad=True)
W_mu = (torch.randn(n_hid, n_z) * 0.1).requires_grad_()
W_lv = (torch.randn(n_hid, n_z) * 0.1).requires_grad_()
W_dec1 = (torch.randn(n_z, n_hid) * 0.1).requires_grad_()
W_dec2 = (torch.randn(n_hid, n_in) * 0.1).requires_grad_()
b_dec2 = torch.zeros(n_in, requires_grad=True)

h = torch.relu(x @ W_enc + b_enc)
mu = h @ W_mu
logvar = h @ W_lv
std = torch.exp(0.5 * logvar)
eps = torch.randn_like(std)
z = mu + eps * std
h_dec = torch.relu(z @ W_dec1)
logits = h_dec @ W_dec2 + b_dec2
recon = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / batch
kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / batch
loss = recon + kl
