[ "$(printf '1 tea\n2 cake\n' | sh ledger.sh count)" = 2 ]
